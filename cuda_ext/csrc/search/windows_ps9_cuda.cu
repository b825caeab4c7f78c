#include "windows_cuda.h"

namespace stnls {

template cudaError_t launch_any_channels<9>(const SearchProblem&, const WindowScratch&,
                                            cudaStream_t);

}  // namespace stnls
