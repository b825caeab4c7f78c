// What the C functions return, so that no C++ exception crosses into Python.
#pragma once

#include <new>

#include "macros.h"

namespace stnls {

enum Status : int { kOk = 0, kOutOfMemory = 1, kFailed = 2 };

template <class Work>
int guarded(Work&& work) {
  try {
    work();
    return kOk;
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  } catch (...) {
    return kFailed;
  }
}

}  // namespace stnls
