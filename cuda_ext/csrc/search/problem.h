// One search, as the Python side describes it: plain sizes, strides and pointers.
#pragma once

#include <cstdint>

namespace stnls {

enum DType : int64_t { kFloat32 = 0, kFloat64 = 1 };

// Which candidates are returned: the k best of all slots, the k best of each slot, or every one in
// raster order (slot, window row, window column).
enum Keep : int64_t { kBestOfAll = 0, kBestOfEach = 1, kEvery = 2 };

// What happens to the query's own position ("anchor": put first, "remove": left out) or to the
// position that the flow predicts in every slot ("anchor_each").
enum SelfAction : int64_t { kNone = 0, kAnchor = 1, kAnchorEach = 2, kRemove = 3 };

// All fields are eight bytes wide, so that C++ and ctypes agree on the layout.
struct SearchProblem {
  const void* query;  // (batch, heads, frames, channels, query_height, query_width)
  const void* key;    // (batch, heads, frames, channels, height, width)
  const void* flow;   // (batch, flow_heads, frames, flow_slots, 2: dx dy, grid_height, grid_width)
  const void* prior;  // refinement: (batch, heads, frames, grid_height, grid_width, prior_entries,
                      // components), offsets of an earlier search, of the type of inds; else null
  void* dists;        // (batch, heads, frames, grid_height, grid_width, K)
  void* inds;         // (..., K, components): int32 on the integer grid, else the video's type
  void* source;       // refinement: (..., K) int32, the entry of prior that each match comes from
  int64_t query_stride[5];  // batch, head, frame, channel, row; columns are contiguous
  int64_t key_stride[5];
  int64_t batch, heads, frames, channels;
  int64_t query_height, query_width, height, width;
  int64_t grid_height, grid_width;
  int64_t flow_heads, flow_slots;
  int64_t prior_entries, windows;  // refinement: windows <= prior_entries are searched
  int64_t wt;                      // slots are 0 .. 2 wt
  int64_t first_slot;              // 1 when the query's own frame is left out
  int64_t ws, ps, patch_offset, dilation;
  int64_t stride0, stride_query;
  int64_t offset_height, offset_width;  // shift of the query patch only
  int64_t k, keep, self_action;
  int64_t reflect_bounds, full_window, product, float_grid, dtype;
  int64_t components;  // 3: (dt, dh, dw); 2: (dh, dw)
  double stride1;
  double charge;     // what a candidate costs beside its distance, for each squared pixel from the
                     // anchor of its window; decides which are kept, and their order
  int32_t* scratch;  // CUDA: as many as stnls_cuda_search_scratch says; may be null if that is 0
};

// Its gradient: dists and inds are those that the search returned. Null: not given, not wanted.
struct SearchGradProblem {
  SearchProblem search;
  const void* grad_dists;     // (..., K)
  const void* grad_inds;      // (..., K, components), the real grid only
  void* grad_query;           // sizes of query, zeros at first
  void* grad_key;             // sizes of key, zeros at first
  void* grad_flow;            // sizes of flow, but with the heads of the videos; zeros at first
  void* grad_prior;           // sizes of prior; zeros at first
  int64_t* fixed_query;       // reproducible sums: integers, of which fixed_scale make a unit
  int64_t* fixed_key;         // (CUDA only; the gradients themselves then only take up NaN)
  const double* fixed_scale;  // one number, on the device
  int64_t grad_query_stride[5];
  int64_t grad_key_stride[5];
  int64_t k_agg;   // entries of each query that take part
  float* scratch;  // CUDA: as many as stnls_cuda_search_gradient_scratch says; may be null
};

}  // namespace stnls
