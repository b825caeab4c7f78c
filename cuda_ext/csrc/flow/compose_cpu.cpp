#include "../common/parallel.h"
#include "../common/status.h"
#include "compose.h"

namespace {

constexpr int64_t kChunk = 4096;

template <class Problem, class Compose>
int in_chunks(const Problem& f, int64_t threads, const Compose& compose) {
  return stnls::guarded([&] {
    const int64_t count = stnls::query_count(f);
    stnls::parallel_for((count + kChunk - 1) / kChunk, threads, [&](int64_t chunk, int64_t) {
      const int64_t end = std::min(count, (chunk + 1) * kChunk);
      for (int64_t index = chunk * kChunk; index < end; ++index) compose(index);
    });
  });
}

}  // namespace

STNLS_API int stnls_cpu_compose_slots(const stnls::FlowProblem* f, int64_t threads) {
  return in_chunks(*f, threads, [&](int64_t index) {
    f->dtype == stnls::kFloat64 ? stnls::compose_slots<double>(*f, index)
                                : stnls::compose_slots<float>(*f, index);
  });
}

STNLS_API int stnls_cpu_compose_chain(const stnls::ChainProblem* f, int64_t threads) {
  return in_chunks(*f, threads, [&](int64_t index) {
    f->dtype == stnls::kFloat64 ? stnls::compose_chain<double>(*f, index)
                                : stnls::compose_chain<float>(*f, index);
  });
}
