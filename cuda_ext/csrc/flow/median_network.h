// Medians of 3 x 3 and 5 x 5 pixels as networks of minima and maxima without branches, for blocks
// of neighbouring pixels that share their work. What a network computes and nobody asks for, the
// compiler drops. Values are numbers, or vectors with lower() and upper() of their own.
#pragma once

#include "../common/macros.h"

namespace stnls {

#if defined(__CUDACC__)
STNLS_HD float lower(float a, float b) { return fminf(a, b); }
STNLS_HD float upper(float a, float b) { return fmaxf(a, b); }
#endif

template <class Value>
STNLS_HD void order(Value& a, Value& b) {
  const Value low = lower(a, b);
  b = upper(a, b);
  a = low;
}

template <class Value>
STNLS_HD void sort3(Value* v) {
  order(v[0], v[1]);
  order(v[1], v[2]);
  order(v[0], v[1]);
}

template <class Value>
STNLS_HD void sort4(Value* v) {
  order(v[0], v[1]);
  order(v[2], v[3]);
  order(v[0], v[2]);
  order(v[1], v[3]);
  order(v[1], v[2]);
}

template <class Value>
STNLS_HD void sort5(Value* v) {
  order(v[0], v[1]);
  order(v[3], v[4]);
  order(v[2], v[4]);
  order(v[2], v[3]);
  order(v[1], v[4]);
  order(v[0], v[3]);
  order(v[0], v[2]);
  order(v[1], v[3]);
  order(v[1], v[2]);
}

// Puts x among four sorted values.
template <class Value>
STNLS_HD void insert(const Value* four, Value x, Value* five) {
  for (int n = 0; n < 4; ++n) {
    five[n] = lower(four[n], x);
    x = upper(four[n], x);
  }
  five[4] = x;
}

// Two and two, three and three, five and five sorted values as one list (Batcher's odd-even merge).
template <class Value>
STNLS_HD void merge2(const Value* a, const Value* b, Value* out) {
  Value low[2] = {a[0], b[0]}, high[2] = {a[1], b[1]};
  order(low[0], low[1]);
  order(high[0], high[1]);
  out[0] = low[0];
  out[1] = lower(low[1], high[0]);
  out[2] = upper(low[1], high[0]);
  out[3] = high[1];
}

template <class Value>
STNLS_HD void merge3(const Value* a, const Value* b, Value* out) {
  const Value a_odd[2] = {a[0], a[2]}, b_odd[2] = {b[0], b[2]};
  Value odd[4];
  merge2(a_odd, b_odd, odd);
  const Value even[2] = {lower(a[1], b[1]), upper(a[1], b[1])};
  out[0] = odd[0];
  for (int n = 0; n < 2; ++n) {
    out[2 * n + 1] = lower(odd[n + 1], even[n]);
    out[2 * n + 2] = upper(odd[n + 1], even[n]);
  }
  out[5] = odd[3];
}

template <class Value>
STNLS_HD void merge5(const Value* a, const Value* b, Value* out) {
  const Value a_odd[3] = {a[0], a[2], a[4]}, b_odd[3] = {b[0], b[2], b[4]};
  const Value a_even[2] = {a[1], a[3]}, b_even[2] = {b[1], b[3]};
  Value odd[6], even[4];
  merge3(a_odd, b_odd, odd);
  merge2(a_even, b_even, even);
  out[0] = odd[0];
  for (int n = 0; n < 4; ++n) {
    out[2 * n + 1] = lower(odd[n + 1], even[n]);
    out[2 * n + 2] = upper(odd[n + 1], even[n]);
  }
  out[9] = odd[5];
}

// Of two sorted lists of ten, the values 8 to 13 of all twenty, sorted: the only ones that can be
// the median when five more come in.
template <class Value>
STNLS_HD void middle_six(const Value* a, const Value* b, Value* six) {
  // The ten smallest rise and then fall, so that the larger halves of pairs at a distance of five
  // are the five largest of them; and the other way round.
  Value low[5], high[5];
  for (int n = 0; n < 5; ++n) {
    low[n] = upper(lower(a[n], b[9 - n]), lower(a[n + 5], b[4 - n]));
    high[n] = lower(upper(a[n], b[9 - n]), upper(a[n + 5], b[4 - n]));
  }
  sort5(low);
  sort5(high);
  for (int n = 0; n < 3; ++n) {
    six[n] = low[n + 2];
    six[n + 3] = high[n];
  }
}

// The sixth of six and five sorted values.
template <class Value>
STNLS_HD Value sixth(const Value* six, const Value* five) {
  Value found = six[5];
  for (int n = 0; n < 5; ++n) found = lower(found, upper(six[4 - n], five[n]));
  return found;
}

}  // namespace stnls
