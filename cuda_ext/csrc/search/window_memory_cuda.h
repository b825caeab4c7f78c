// What a tile of queries keeps in shared memory in the window form of the search.
#pragma once

#include "window_shape_cuda.h"

namespace stnls {

// The window of a query: position and index of its anchor, first whole displacement. On the integer
// grid the numbers are whole.
struct WindowPlace {
  float anchor_h, anchor_w;
  int first_h, first_w;
  uint8_t offset_h, offset_w;
  uint8_t from_h, count_h, from_w, count_w;  // rows and columns that are inside the frame
  uint8_t next;                              // the first column that is not yet compared
};
static_assert(sizeof(WindowPlace) == 24, "WindowShared counts on it");

struct WindowMemory {
  uint64_t* lists;
  float2* queue;  // of the lane
  float* sums;    // distances at whole displacements
  WindowPlace* places;
  int* pinned;  // of the lane in every row: the candidate that is not chosen by its distance

  __device__ WindowMemory(const SearchProblem& p, uint64_t* shared, int lane) {
    const WindowShared at(p);
    lists = shared + at.lists;
    queue = reinterpret_cast<float2*>(shared + at.queue) + lane;
    sums = reinterpret_cast<float*>(shared + at.columns);
    places = reinterpret_cast<WindowPlace*>(shared + at.places);
    pinned = reinterpret_cast<int*>(shared + at.pinned) + lane;
  }
};

}  // namespace stnls
