#include "cuda/plan_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "core/error.h"

namespace slimclr::cuda {

namespace {

constexpr const char* kFormat = "slimclr convolution plans 2";
constexpr size_t kMostBytes = size_t{16} << 20;
constexpr auto kPause = std::chrono::seconds(2);

// FNV-1a: tells a damaged file from a whole one.
uint64_t checksum(const std::string& text) {
  uint64_t h = 14695981039346656037u;
  for (unsigned char c : text) h = (h ^ c) * 1099511628211u;
  return h;
}

// A name for a file out of letters, digits, points and dashes.
std::string file_name(const std::string& target) {
  std::string name = "convolution-plans-";
  for (char c : target) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.';
    if (plain || name.back() != '-') name += plain ? c : '-';
  }
  return name + ".txt";
}

constexpr size_t kNumbers = 13;
std::array<int64_t, kNumbers> numbers_of(const ConvolutionShape& s) {
  return {static_cast<int64_t>(s.pass),
          static_cast<int64_t>(s.precision),
          s.n,
          s.c,
          s.h,
          s.w,
          s.k,
          s.oh,
          s.ow,
          s.kernel_h,
          s.kernel_w,
          s.stride,
          s.padding};
}
bool shape_of(const std::array<int64_t, kNumbers>& v, ConvolutionShape* s) {
  for (int64_t number : v)
    if (number < 0) return false;
  if (v[0] > static_cast<int64_t>(ConvolutionPass::backward_weights)) return false;
  if (v[1] > static_cast<int64_t>(Precision::f16)) return false;
  *s = {static_cast<ConvolutionPass>(v[0]),
        static_cast<Precision>(v[1]),
        v[2],
        v[3],
        v[4],
        v[5],
        v[6],
        v[7],
        v[8],
        v[9],
        v[10],
        v[11],
        v[12]};
  return true;
}

// A line: the shape's numbers, whether it is a product, whether float32 is computed as TF32, the engine, the number of
// knobs, their types and values.
bool parse(const std::string& line, ConvolutionShape* shape, PlanChoice* choice) {
  std::istringstream words(line);
  std::array<int64_t, kNumbers> v{};
  for (int64_t& number : v) words >> number;
  int product = 0, rounded = 0, knobs = 0;
  words >> product >> rounded >> choice->engine >> knobs;
  auto flag = [](int value) { return value == 0 || value == 1; };
  if (!words || !flag(product) || !flag(rounded) || choice->engine < 0 || knobs < 0 || knobs > 256) return false;
  choice->product = product == 1;
  choice->rounded = rounded == 1;
  for (int i = 0; i < knobs; ++i) {
    KnobChoice knob{};
    words >> knob.type >> knob.value;
    choice->knobs.push_back(knob);
  }
  std::string rest;
  return !words.fail() && !(words >> rest) && shape_of(v, shape) && (!choice->product || is_product(*shape));
}

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() { close(); }
  File(const File&) = delete;
  bool write(const std::string& text) {
    for (size_t done = 0; done < text.size();) {
      const ssize_t n = ::write(descriptor_, text.data() + done, text.size() - done);
      if (n < 0 && errno != EINTR) return false;
      if (n > 0) done += static_cast<size_t>(n);
    }
    return ::fsync(descriptor_) == 0;
  }
  bool close() {
    const int descriptor = std::exchange(descriptor_, -1);
    return descriptor < 0 || ::close(descriptor) == 0;
  }

 private:
  int descriptor_;
};

std::string set_to(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? value : "";
}

}  // namespace

std::string cache_folder() {
  if (std::string folder = set_to("SLIMCLR_CACHE"); !folder.empty()) return folder;
  // Only absolute, as the XDG specification has it.
  if (std::string folder = set_to("XDG_CACHE_HOME"); folder.starts_with('/')) return folder + "/slimclr";
  if (std::string home = set_to("HOME"); !home.empty()) return home + "/.cache/slimclr";
  return "";
}

PlanStore::PlanStore(std::string folder, std::string target, Tell tell)
    : folder_(std::move(folder)), target_(std::move(target)), tell_(std::move(tell)) {
  if (!folder_.empty()) file_ = folder_ + "/" + file_name(target_);
}

PlanStore::~PlanStore() {
  if (changed_) save();
}

void PlanStore::say(const std::string& line) {
  if (!std::exchange(told_, true)) tell_(line);
}

std::string PlanStore::text() const {
  std::ostringstream out;
  out << kFormat << '\n' << target_ << '\n';
  for (const auto& [shape, choice] : choices_) {
    for (int64_t number : numbers_of(shape)) out << number << ' ';
    out << choice.product << ' ' << choice.rounded << ' ' << choice.engine << ' ' << choice.knobs.size();
    for (const KnobChoice& knob : choice.knobs) out << ' ' << knob.type << ' ' << knob.value;
    out << '\n';
  }
  const std::string body = out.str();
  return concat(body, "end ", checksum(body), '\n');
}

PlanStore::Choices PlanStore::read(bool tell) const {
  std::ifstream stream(file_, std::ios::binary);
  if (!stream) return {};  // none yet
  std::string content;
  std::array<char, 65536> piece;
  while (content.size() <= kMostBytes && (stream.read(piece.data(), piece.size()) || stream.gcount() > 0))
    content.append(piece.data(), static_cast<size_t>(stream.gcount()));

  auto refuse = [&](const char* why) -> Choices {
    if (tell) tell_(concat(file_, ' ', why, ": it is ignored and will be replaced"));
    return {};
  };
  const std::string head = concat(kFormat, '\n', target_, '\n');
  const size_t end = content.rfind("end ");
  if (end == std::string::npos || content.size() > kMostBytes) return refuse("is damaged");
  const std::string body = content.substr(0, end);
  if (content.substr(end) != concat("end ", checksum(body), '\n')) return refuse("is damaged");
  if (!body.starts_with(head)) return refuse("is of another version or GPU");
  Choices choices;
  std::istringstream lines(body.substr(head.size()));
  for (std::string line; std::getline(lines, line);) {
    ConvolutionShape shape{};
    PlanChoice choice;
    if (!parse(line, &shape, &choice)) return refuse("is damaged");
    choices[shape] = std::move(choice);
  }
  return choices;
}

void PlanStore::open() {
  if (std::exchange(opened_, true) || file_.empty()) return;
  choices_ = read(true);
}

std::optional<PlanChoice> PlanStore::find(const ConvolutionShape& shape) {
  open();
  auto found = choices_.find(shape);
  if (found == choices_.end()) return std::nullopt;
  return found->second;
}

void PlanStore::add(const ConvolutionShape& shape, const PlanChoice& choice) {
  if (file_.empty()) return;
  open();
  choices_[shape] = choice;
  changed_ = true;
  if (std::chrono::steady_clock::now() - saved_ >= kPause) save();
}

void PlanStore::save() {
  if (file_.empty()) return;
  changed_ = false;
  saved_ = std::chrono::steady_clock::now();
  try {
    open();
    Choices theirs = read(false);
    choices_.merge(theirs);  // ours stay
    auto check = [&](bool ok) {
      if (!ok) throw std::runtime_error(std::strerror(errno));
    };
    std::filesystem::create_directories(folder_);
    std::string name = file_ + ".XXXXXX";
    const int descriptor = ::mkstemp(name.data());
    check(descriptor >= 0);
    File file(descriptor);
    try {
      check(file.write(text()) && file.close());
      check(::rename(name.c_str(), file_.c_str()) == 0);
    } catch (...) {
      ::unlink(name.c_str());
      throw;
    }
  } catch (const std::exception& e) {
    say(concat("plans of convolutions cannot be kept in ", folder_, ": ", e.what(),
               "; SLIMCLR_CACHE names another folder"));
  }
}

}  // namespace slimclr::cuda
