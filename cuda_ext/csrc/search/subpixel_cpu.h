// Moves matches to where they lie between positions (CPU).
#pragma once

#include <cstdint>
#include <vector>

#include "subpixel.h"

namespace stnls {

// Those of all queries.
void move_matches(const SubpixelProblem& p, int64_t threads);

// Those of some, by their numbers.
void move_matches(const SubpixelProblem& p, const std::vector<int64_t>& queries, int64_t threads);

}  // namespace stnls
