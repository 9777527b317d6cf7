#pragma once
// Copies to a device from memory that may change as soon as the call returns. CUDA promises that of no pageable memory (a copy from
// it "might" be over by then), so everything passes through page-locked pieces, which also is the faster way.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kontor::inference::cuda {

/// Two page-locked pieces that take turns. `Port` is the device's side: send(to, from, bytes) puts a copy onto the stream, which
/// reads `from` at any time until it is done; mark(piece) notes this place of the stream; await(piece) waits until the stream has
/// come to the place noted last for the piece.
template <class Port>
class Staging {
 public:
  Staging(Port& port, std::byte* first, std::byte* second, std::uint64_t piece_bytes) : port_(port), pieces_{{first}, {second}}, piece_bytes_(piece_bytes) {}

  /// In stream order; `from` may change when it returns. Waits only where both pieces are full of copies under way.
  void copy_in(void* to, const void* from, std::uint64_t bytes) {
    for (std::uint64_t done = 0; done < bytes;) {
      if (pieces_[at_].used == piece_bytes_) turn();
      Piece& piece = pieces_[at_];
      const std::uint64_t take = std::min(bytes - done, piece_bytes_ - piece.used);
      std::byte* staged = piece.data + piece.used;
      std::memcpy(staged, static_cast<const std::byte*>(from) + done, take);
      port_.send(static_cast<std::byte*>(to) + done, staged, take);
      piece.used = std::min(piece_bytes_, (piece.used + take + 255) / 256 * 256);
      done += take;
    }
  }

  /// The stream is empty: no piece is read any more.
  void drained() { pieces_[0].used = pieces_[1].used = 0; }

 private:
  struct Piece {
    std::byte* data;
    std::uint64_t used = 0;
  };

  void turn() {
    port_.mark(at_);
    at_ = 1 - at_;
    if (pieces_[at_].used > 0) port_.await(at_);
    pieces_[at_].used = 0;
  }

  Port& port_;
  Piece pieces_[2];
  std::uint64_t piece_bytes_;
  int at_ = 0;
};

}  // namespace kontor::inference::cuda
