// What was fastest for each convolution, one of cuDNN's engines or cuBLASLt's product, kept in a file from one process
// to the next. Such a file only saves time: one that is damaged, or cannot be written, is told in a line and never an
// error.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "cuda/convolution_plan.h"

namespace slimclr::cuda {

// SLIMCLR_CACHE, or slimclr in XDG_CACHE_HOME or in ~/.cache; empty where none of them is set.
std::string cache_folder();

class PlanStore {
 public:
  using Tell = std::function<void(const std::string&)>;

  // `target`: what the choices hold for, in a line: GPU, compute capability, versions of the libraries. An empty folder
  // keeps nothing.
  PlanStore(std::string folder, std::string target, Tell tell);
  ~PlanStore();
  PlanStore(const PlanStore&) = delete;

  std::optional<PlanChoice> find(const ConvolutionShape& shape);
  // Writes the file, at most once every two seconds; the last of them when the store ends.
  void add(const ConvolutionShape& shape, const PlanChoice& choice);
  // Several processes may write at once: each adds what it finds to what the file holds and replaces it as a whole.
  void save();

  const std::string& file() const { return file_; }  // empty where nothing is kept

 private:
  using Choices = std::map<ConvolutionShape, PlanChoice>;
  Choices read(bool tell) const;
  std::string text() const;
  void open();
  void say(const std::string& line);

  std::string folder_, target_, file_;
  Tell tell_;
  Choices choices_;
  bool opened_ = false, changed_ = false, told_ = false;
  std::chrono::steady_clock::time_point saved_;
};

}  // namespace slimclr::cuda
