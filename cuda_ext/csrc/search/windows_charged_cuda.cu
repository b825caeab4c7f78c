#include "windows_cuda.h"

namespace stnls {

template cudaError_t launch_charged<3>(const SearchProblem&, const WindowScratch&, cudaStream_t);
template cudaError_t launch_charged<5>(const SearchProblem&, const WindowScratch&, cudaStream_t);
template cudaError_t launch_charged<7>(const SearchProblem&, const WindowScratch&, cudaStream_t);
template cudaError_t launch_charged<9>(const SearchProblem&, const WindowScratch&, cudaStream_t);

}  // namespace stnls
