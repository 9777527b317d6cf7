// Splits the activations of a tile call into groups of kGroupRows, two and one. Included like kernels_generic.inl,
// after simple_block, k_block and six_block are defined.

template <int Bits, int Offset, bool Minimum>
void tile_simple(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
                 std::int64_t out_stride) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(tile);
  std::int64_t t = 0;
  for (; t + kGroupRows <= count; t += kGroupRows) simple_block<Bits, Offset, Minimum, kGroupRows>(p, a, first + t, out + t * out_stride, out_stride);
  for (; t + 2 <= count; t += 2) simple_block<Bits, Offset, Minimum, 2>(p, a, first + t, out + t * out_stride, out_stride);
  for (; t < count; ++t) simple_block<Bits, Offset, Minimum, 1>(p, a, first + t, out + t * out_stride, out_stride);
}

template <int Bits>
void tile_k(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
            std::int64_t out_stride) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(tile);
  std::int64_t t = 0;
  for (; t + kGroupRows <= count; t += kGroupRows) k_block<Bits, kGroupRows>(p, a, first + t, out + t * out_stride, out_stride);
  for (; t + 2 <= count; t += 2) k_block<Bits, 2>(p, a, first + t, out + t * out_stride, out_stride);
  for (; t < count; ++t) k_block<Bits, 1>(p, a, first + t, out + t * out_stride, out_stride);
}

void tile_6k(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
             std::int64_t out_stride) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(tile);
  std::int64_t t = 0;
  for (; t + kGroupRows <= count; t += kGroupRows) six_block<kGroupRows>(p, a, first + t, out + t * out_stride, out_stride);
  for (; t + 2 <= count; t += 2) six_block<2>(p, a, first + t, out + t * out_stride, out_stride);
  for (; t < count; ++t) six_block<1>(p, a, first + t, out + t * out_stride, out_stride);
}
