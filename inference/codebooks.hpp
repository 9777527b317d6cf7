#pragma once
// Vectors that the codes of the IQ formats stand for. A vector's components are packed from the lowest bits up, each as
// an index into the values that its format knows.

#include <cstdint>

namespace kontor::inference::codebooks {

// Eight components of two bits: 8, 25, 43.
extern const std::uint16_t kCodes2Xxs[256];
extern const std::uint16_t kCodes2Xs[512];
extern const std::uint16_t kCodes2S[1024];
// Four components of three bits: 4, 12, 20, 28, 36, 44, 52, 62 (IQ3_XXS) and 1, 3, 5, ... 15 (IQ3_S).
extern const std::uint16_t kCodes3Xxs[256];
extern const std::uint16_t kCodes3S[512];
// Eight components of two bits: -1, 0, 1.
extern const std::uint16_t kCodes1[2048];

}  // namespace kontor::inference::codebooks
