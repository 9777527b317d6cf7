#pragma once
// What the register of a frame holds for each kind of node. Internal to automaton*.cpp.

#include <cstdint>

namespace kontor::inference {

constexpr std::uint32_t low_half(std::uint64_t data) { return static_cast<std::uint32_t>(data); }
constexpr std::uint32_t high_half(std::uint64_t data) { return static_cast<std::uint32_t>(data >> 32); }
constexpr std::uint64_t pack_halves(std::uint32_t high, std::uint32_t low) { return std::uint64_t{high} << 32 | low; }

// string_body: count | step. fresh_key: used names | name << 4 | step (a name of 28 bits). verbatim: state of the text |
// step. text: see string_steps.hpp.
inline constexpr std::uint32_t kNameShift = 4;
inline constexpr std::uint32_t kStepMask = (1u << kNameShift) - 1;
// Names while looking ahead: a flag beside the name, or one that no used name begins with. Behind such a one no name may
// follow in the same object before it is known.
inline constexpr std::uint32_t kAhead = 1u << 27, kFreshName = kAhead | (kAhead - 1), kUnknownUsed = 1;

}  // namespace kontor::inference
