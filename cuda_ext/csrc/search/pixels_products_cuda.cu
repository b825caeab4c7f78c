#include "pixels_cuda.h"

namespace stnls {

template cudaError_t launch_pixels<true>(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
