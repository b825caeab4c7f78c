#include "windows_cuda.h"

namespace stnls {

template cudaError_t launch_in_registers<9>(const SearchProblem&, const float*, cudaStream_t);

}  // namespace stnls
