// Search over tiles of neighbouring queries (CPU).
//
// For a fixed displacement d the patch distance of every query is a box sum of one difference image
// e(x) = sum_c (q_c(x) - k_c(x + d))^2. Neighbouring queries look around nearly the same place, so
// a tile walks the union of their windows once: C differences and a separable box sum for each
// pixel and displacement, instead of ps^2 C. A tile whose union grows too large (edges of motion)
// is cut in two, and displacements that few of its queries want are summed for these alone.
//
// tiles_plan_cpu.h says where the queries of a tile look, tiles_demand_cpu.h which displacements of
// a union are wanted, tiles_sums_cpu.h sums patches there, tiles_keep_cpu.h keeps the best, and
// tiles_surface_cpu.h places them between positions.
//
// On the bilinear grid the four weights w_a of a sample are the same for the whole patch, so that
//   sum |q - sum_a w_a k_a|^2 = sum_a w_a D_a - sum_{a<b} w_a w_b G_ab,
// D_a the distances at the four surrounding integer displacements, G_ab the patch sums of
// |k_a - k_b|^2. (Products are linear: no correction.)
#pragma once

#include <cstdint>
#include <vector>

#include "problem.h"

namespace stnls {

// Whether search_tiles serves this problem.
bool tiles_apply(const SearchProblem& p);

// Whether it can also say where between positions the best matches lie.
bool tiles_move(const SearchProblem& p);

// moved: null, or (batch, height, width, 2: dh dw), where the best matches go as they lie between
// positions. Returns the numbers of the queries of which the position itself is there, to be moved
// by subpixel_cpu.h.
std::vector<int64_t> search_tiles(const SearchProblem& p, int64_t threads, float* moved);

}  // namespace stnls
