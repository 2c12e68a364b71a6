#pragma once

#include <cstddef>
#include <cstdint>

namespace slimclr {

enum class DType : uint8_t { f32, bf16, f16, i32, i64, u8 };

constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::i64:
      return 8;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr const char* name_of(DType t) {
  switch (t) {
    case DType::f32:
      return "float32";
    case DType::bf16:
      return "bfloat16";
    case DType::f16:
      return "float16";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
    case DType::u8:
      return "uint8";
  }
  return "?";
}

// bfloat16 or float16: numbers of 16 bits, which JavaScript reads and writes as float32.
constexpr bool is_half(DType t) { return t == DType::bf16 || t == DType::f16; }

// What activations are made of.
constexpr bool is_floating(DType t) { return t == DType::f32 || is_half(t); }

}  // namespace slimclr
