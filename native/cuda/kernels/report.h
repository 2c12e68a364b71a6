// What a kernel found wrong with its input. The struct lies in memory that host and device share, and is looked at when
// the stream is next waited for.
#pragma once

#include <cstdint>

namespace slimclr::cuda {

struct Report {
  enum Kind : int32_t { none, bad_labels, bad_positives, bad_rows, image_outside };
  int32_t kind;
  int64_t values[5];
};

}  // namespace slimclr::cuda
