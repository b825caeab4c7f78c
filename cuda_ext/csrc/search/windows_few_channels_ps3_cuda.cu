#include "windows_cuda.h"

namespace stnls {

template cudaError_t launch_few_channels<3>(const SearchProblem&, const KeySlopes&, cudaStream_t);

}  // namespace stnls
