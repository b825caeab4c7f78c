// Kernels for patch sizes that are known when they are compiled.
#pragma once

#include <cstdint>
#include <type_traits>

namespace stnls {

// call(std::integral_constant<int, n>), where n is the size if that is at most 11, and else 0: any.
template <class Call>
void with_patch_size(int64_t ps, const Call& call) {
  switch (ps) {
    case 1:
      return call(std::integral_constant<int, 1>{});
    case 2:
      return call(std::integral_constant<int, 2>{});
    case 3:
      return call(std::integral_constant<int, 3>{});
    case 4:
      return call(std::integral_constant<int, 4>{});
    case 5:
      return call(std::integral_constant<int, 5>{});
    case 6:
      return call(std::integral_constant<int, 6>{});
    case 7:
      return call(std::integral_constant<int, 7>{});
    case 8:
      return call(std::integral_constant<int, 8>{});
    case 9:
      return call(std::integral_constant<int, 9>{});
    case 10:
      return call(std::integral_constant<int, 10>{});
    case 11:
      return call(std::integral_constant<int, 11>{});
    default:
      return call(std::integral_constant<int, 0>{});
  }
}

}  // namespace stnls
