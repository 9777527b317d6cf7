// Splits the activations of a tile call into groups of kGroupRows, four, two and one. Included like
// kernels_generic.inl, after simple_block, k_block and fine_block are defined.

template <int Bits, int Offset, bool Minimum, CodeTable Table = CodeTable::none, bool Bf16 = false>
void tile_simple(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
                 std::int64_t out_stride) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(tile);
  std::int64_t t = 0;
  const auto take = [&]<int T>() {
    for (; t + T <= count; t += T) simple_block<Bits, Offset, Minimum, Table, Bf16, T>(p, a, first + t, out + t * out_stride, out_stride);
  };
  take.template operator()<kGroupRows>();
  if constexpr (kGroupRows > 4) take.template operator()<4>();
  if constexpr (kGroupRows > 2) take.template operator()<2>();
  take.template operator()<1>();
}

template <int Bits>
void tile_k(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
            std::int64_t out_stride) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(tile);
  std::int64_t t = 0;
  const auto take = [&]<int T>() {
    for (; t + T <= count; t += T) k_block<Bits, T>(p, a, first + t, out + t * out_stride, out_stride);
  };
  take.template operator()<kGroupRows>();
  if constexpr (kGroupRows > 4) take.template operator()<4>();
  if constexpr (kGroupRows > 2) take.template operator()<2>();
  take.template operator()<1>();
}

template <int Bits, int Offset, CodeTable Table = CodeTable::none, bool Minimum = false, bool Wide = false>
void tile_fine(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
               std::int64_t out_stride) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(tile);
  std::int64_t t = 0;
  const auto take = [&]<int T>() {
    for (; t + T <= count; t += T) fine_block<Bits, Offset, Table, Minimum, Wide, T>(p, a, first + t, out + t * out_stride, out_stride);
  };
  take.template operator()<kGroupRows>();
  if constexpr (kGroupRows > 4) take.template operator()<4>();
  if constexpr (kGroupRows > 2) take.template operator()<2>();
  take.template operator()<1>();
}

void tile_half(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out, std::int64_t out_stride) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(tile);
  std::int64_t t = 0;
  const auto take = [&]<int T>() {
    for (; t + T <= count; t += T) half_block<T>(p, a, first + t, out + t * out_stride, out_stride);
  };
  take.template operator()<kGroupRows>();
  if constexpr (kGroupRows > 4) take.template operator()<4>();
  if constexpr (kGroupRows > 2) take.template operator()<2>();
  take.template operator()<1>();
}
