#include "windows_cuda.h"

namespace stnls {

template cudaError_t launch_few_channels<3>(const SearchProblem&, const WindowScratch&,
                                            cudaStream_t);

}  // namespace stnls
