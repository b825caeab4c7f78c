// One scale of TV-L1 on the GPU: for each warp a kernel that linearises, then for each outer
// iteration a median filter and some trips of inner iterations. Nothing waits for the host: a pair
// that has converged is passed over by the kernels themselves.
#include "../common/cuda_launch.h"
#include "tvl1_iterate_cuda.h"
#include "tvl1_median_cuda.h"
#include "tvl1_plan_cuda.h"
#include "tvl1_warp_cuda.h"

namespace stnls {
namespace {

constexpr int64_t kPairsOfGrid = 16384;  // grids are at most 65535 deep

Tvl1Device describe_device(int device) {
  Tvl1Device found;
  int major = 0;
  cudaFuncAttributes built{};
  cudaDeviceGetAttribute(&found.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&found.shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  // What blocks tell each other is compiled for 9.0 and newer alone: a new GPU may run code that
  // was made from that of an older one. Clusters of more than 8 blocks were tried on 9.0 only.
  const bool exchange =
      cudaFuncGetAttributes(&built, tvl1_iterate_kernel<1, true>) == cudaSuccess &&
      built.ptxVersion >= 90;
  found.early = major >= 9 && exchange;
  found.most_blocks = !found.early ? 1 : major == 9 ? kMostBlocks : 8;
  return found;
}

using IterateKernel = void (*)(Tvl1Planes, Tvl1Step, Tvl1Tiling, Tvl1Weights, bool, bool);

template <int kRows>
IterateKernel iterate_kernel(bool clusters, int* shared_memory) {
  *shared_memory = static_cast<int>(sizeof(Tvl1Memory<kRows>));
  return clusters ? tvl1_iterate_kernel<kRows, true> : tvl1_iterate_kernel<kRows, false>;
}

class Solver {
 public:
  Solver(const Tvl1Problem& problem, int device, cudaStream_t stream)
      : p(problem), planes(problem), stream(stream), device(describe_device(device)) {
    plan = plan_iterations(p, this->device);
    const bool clusters = plan.tiling.blocks > 1;
    iterate = plan.rows == 4   ? iterate_kernel<4>(clusters, &shared_memory)
              : plan.rows == 2 ? iterate_kernel<2>(clusters, &shared_memory)
                               : iterate_kernel<1>(clusters, &shared_memory);
    const double enough = p.epsilon * p.epsilon * static_cast<double>(p.height * p.width);
    weights.theta = static_cast<float>(p.theta);
    weights.step = static_cast<float>(p.tau / p.theta);
    weights.most = static_cast<float>(p.lambda * p.theta);
    weights.change = static_cast<float>(static_cast<double>(kEnoughChange) / enough);
    step.may_stop = p.epsilon > 0;
    step.flow_swaps = plan.trips + (p.median > 1 ? 1 : 0);
    step.dual_swaps = plan.trips;
  }

  cudaError_t run() {
    error =
        cudaFuncSetAttribute(iterate, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_memory);
    if (error == cudaSuccess && plan.tiling.blocks > 8)
      error = cudaFuncSetAttribute(iterate, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error != cudaSuccess) return error;
    for_pairs([&](int64_t first, unsigned count) {
      launch(tvl1_begin_kernel, pixel_blocks(count), kPixelThreads, planes,
             static_cast<const float*>(p.start), first);
    });
    for (int64_t warp = 0; warp < p.warps; ++warp) {
      begin_step(warp == 0 ? 0 : p.outer);
      for_pairs([&](int64_t first, unsigned count) {
        launch(tvl1_linearise_kernel, pixel_blocks(count), kPixelThreads, planes, step,
               static_cast<const float*>(p.frame0), static_cast<const float*>(p.frame1), first);
      });
      for (int64_t outer = 0; outer < p.outer; ++outer) {
        begin_step(outer);
        if (p.median > 1) filter();
        for (int trip = 0; trip < plan.trips && error == cudaSuccess; ++trip) make_trip(trip);
        if (error != cudaSuccess) return error;
      }
    }
    begin_step(p.outer);
    for_pairs([&](int64_t first, unsigned count) {
      launch(tvl1_end_kernel, pixel_blocks(count), kPixelThreads, planes, step,
             static_cast<float*>(p.flow), first);
    });
    return error;
  }

 private:
  const Tvl1Problem& p;
  Tvl1Planes planes;
  cudaStream_t stream;
  Tvl1Device device;
  Tvl1Plan plan;
  Tvl1Weights weights;
  Tvl1Step step{};
  IterateKernel iterate;
  int shared_memory = 0;
  int shared_of_launch = 0, blocks_of_cluster = 1;
  bool is_first = true;
  cudaError_t error = cudaSuccess;

  // Where pairs may have ended, and kernels may be short, each may be set up before the one before
  // it has ended (after_previous_kernel), but for the first, which follows one of somebody else's.
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 blocks, int threads, Arguments... arguments) {
    if (error != cudaSuccess) return;
    cudaLaunchAttribute attributes[2]{};
    cudaLaunchConfig_t config{};
    config.gridDim = blocks;
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = static_cast<size_t>(shared_of_launch);
    config.stream = stream;
    config.attrs = attributes;
    if (blocks_of_cluster > 1) {
      cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim.x = static_cast<unsigned>(blocks_of_cluster);
      cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    }
    if (device.early && step.may_stop && !is_first) {
      cudaLaunchAttribute& early = attributes[config.numAttrs++];
      early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      early.val.programmaticStreamSerializationAllowed = 1;
    }
    is_first = false;
    error = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  }

  template <class Launch>
  void for_pairs(const Launch& launch) {
    for (int64_t first = 0; first < p.batch; first += kPairsOfGrid)
      launch(first, static_cast<unsigned>(std::min(kPairsOfGrid, p.batch - first)));
  }

  dim3 pixel_blocks(unsigned count) const {
    return dim3(blocks_for(planes.pitch, 128), blocks_for(planes.height, 2), count);
  }

  // Only the number modulo three and being the first matter.
  void begin_step(int64_t number) {
    step.number = static_cast<int>(number % 3);
    step.flow_swapped = step.dual_swapped = 0;
  }

  void filter() {
    for_pairs([&](int64_t first, unsigned count) {
      const dim3 blocks(blocks_for(planes.pitch, kMedianColumns),
                        blocks_for(planes.height, kMedianRows), 2 * count);
      launch(p.median == 3 ? tvl1_median_kernel<3> : tvl1_median_kernel<5>, blocks, kMedianThreads,
             planes, step, first);
    });
    ++step.flow_swapped;
  }

  void make_trip(int trip) {
    Tvl1Tiling tiling = plan.tiling;
    const bool last = trip == plan.trips - 1;
    if (last) tiling.iterations = static_cast<int>(p.inner - (plan.trips - 1) * tiling.iterations);
    shared_of_launch = shared_memory;
    blocks_of_cluster = tiling.blocks;
    launch(iterate,
           dim3(static_cast<unsigned>(p.batch * tiling.segments * tiling.strips * tiling.blocks)),
           kIterateThreads, planes, step, tiling, weights, trip == 0, last && step.may_stop);
    shared_of_launch = 0;
    blocks_of_cluster = 1;
    ++step.flow_swapped;
    ++step.dual_swapped;
  }
};

}  // namespace
}  // namespace stnls

STNLS_API int64_t stnls_cuda_tvl1_scratch(const stnls::Tvl1Problem* p) {
  return stnls::Tvl1Planes::size(*p);
}

STNLS_API int stnls_cuda_tvl1(const stnls::Tvl1Problem* p, int device, void* stream, char* message,
                              int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size,
                   [&] { return Solver(*p, device, static_cast<cudaStream_t>(stream)).run(); });
}
