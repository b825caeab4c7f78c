#include "tiles_cuda.h"

namespace stnls {

template cudaError_t launch_tiles<9>(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
