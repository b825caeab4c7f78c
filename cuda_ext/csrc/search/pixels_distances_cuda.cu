#include "pixels_cuda.h"

namespace stnls {

template cudaError_t launch_pixels<false>(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
