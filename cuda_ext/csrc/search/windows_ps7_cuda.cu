#include "windows_cuda.h"

namespace stnls {

template cudaError_t launch_any_channels<7>(const SearchProblem&, const WindowScratch&,
                                            cudaStream_t);

}  // namespace stnls
