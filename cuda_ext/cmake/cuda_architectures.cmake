# Which GPU architectures to compile for. CMake's own "native" and "all" are not used: they need the
# language enabled first, and "native" fails on a machine without a GPU.

# Compute capabilities of the GPUs that the driver sees, as "90;120"; empty if there is none.
function(gpus_of_this_machine result)
  set(${result} "" PARENT_SCOPE)
  find_program(nvidia_smi nvidia-smi)
  if(nvidia_smi)
    execute_process(COMMAND ${nvidia_smi} --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE printed ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]+" capabilities "${printed}")
      string(REPLACE "." "" capabilities "${capabilities}")
      list(REMOVE_DUPLICATES capabilities)
      set(${result} "${capabilities}" PARENT_SCOPE)
    endif()
  endif()
endfunction()

# Architectures that this nvcc compiles for, from sm_75 on, in ascending order.
function(known_architectures result)
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE printed
                  COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "compute_[0-9]+" names "${printed}")
  set(known "")
  foreach(name IN LISTS names)
    string(REPLACE "compute_" "" number ${name})
    if(number GREATER_EQUAL 75)
      list(APPEND known ${number})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES known)
  list(SORT known COMPARE NATURAL)
  set(${result} "${known}" PARENT_SCOPE)
endfunction()

# What to give CMAKE_CUDA_ARCHITECTURES for "auto", "native", "all", or a list, which stays.
function(resolve_architectures wanted result)
  string(TOLOWER "${wanted}" wanted)
  if(wanted MATCHES "^(auto|native|all)$")
    known_architectures(known)
    gpus_of_this_machine(gpus)
    set(unknown ${gpus})
    list(REMOVE_ITEM unknown ${known})
    if(gpus AND NOT unknown AND NOT wanted STREQUAL "all")
      set(wanted "${gpus}")
    elseif(wanted STREQUAL "native" AND NOT gpus)
      set(wanted 90)
    else()
      list(POP_BACK known newest)
      list(TRANSFORM known APPEND "-real")
      set(wanted ${known} ${newest})  # the newest as PTX too, for the GPUs still to come
    endif()
  endif()
  set(${result} "${wanted}" PARENT_SCOPE)
endfunction()
