// Errors that reach JavaScript: `[op] expected …, received …`.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace slimclr {

enum class ErrorKind { type, range, runtime };  // TypeError, RangeError, Error in JavaScript

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream s;
  (s << ... << parts);
  return s.str();
}

template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const char* op, const Parts&... parts) {
  throw Error(kind, concat('[', op, "] ", parts...));
}

// A wrong kind of argument (TypeError) and a value out of its range (RangeError).
template <typename... Parts>
void check_type(bool ok, const char* op, const Parts&... parts) {
  if (!ok) fail(ErrorKind::type, op, parts...);
}
template <typename... Parts>
void check_range(bool ok, const char* op, const Parts&... parts) {
  if (!ok) fail(ErrorKind::range, op, parts...);
}

}  // namespace slimclr
