#include "egress/tcp/tcp_habits_testing.h"

#include <algorithm>
#include <array>
#include <bit>

namespace penstock::egress::testing {

using namespace std::chrono_literals;

std::uint32_t some_number(Dice& dice) {
  const auto any = static_cast<std::uint32_t>(dice.next());
  switch (dice.up_to(3)) {
    case 0: return 0U - static_cast<std::uint32_t>(dice.size(100'000));
    case 1: return 0x80000000U - static_cast<std::uint32_t>(dice.size(100'000));
    default: return any;
  }
}

ClientHabits some_habits(Dice& dice) {
  static constexpr std::array<std::uint16_t, 8> kSizes{100, 216, 536, 1220, 1380, 1460, 8960, 65495};
  ClientHabits habits;
  habits.initial_sequence = some_number(dice);
  habits.first_timestamp = some_number(dice);
  if (dice.one_in(4)) habits.mss = kSizes[dice.up_to(kSizes.size() - 1)];
  if (dice.one_in(8)) habits.mss.reset();
  if (dice.one_in(3)) habits.window_scale = static_cast<std::uint8_t>(dice.up_to(14));
  if (dice.one_in(4)) habits.window_scale.reset();
  habits.sack = !dice.one_in(3);
  habits.timestamps = !dice.one_in(3);
  habits.duplicate_sacks = habits.sack && dice.one_in(3);
  if (dice.one_in(3)) habits.capacity = 1 + dice.size(300'000);
  if (dice.one_in(10)) habits.capacity = dice.between(1, 600);
  // Or nothing that fits into its window could be said.
  const auto most = static_cast<std::uint8_t>(std::bit_width(habits.capacity) - 1);
  if (habits.window_scale) habits.window_scale = std::min(*habits.window_scale, most);
  habits.tells_every_window = dice.one_in(2);
  habits.takes_fin_without_room = dice.one_in(2);
  if (dice.one_in(2)) habits.acknowledges_every = static_cast<unsigned>(dice.between(1, 8));
  if (dice.one_in(2)) habits.acknowledges_within = dice.up_to(Duration(500ms));
  if (dice.one_in(2)) habits.timeout = dice.between(Duration(50ms), Duration(1500ms));
  habits.flight = dice.between(1, dice.one_in(4) ? 4 : 40);
  habits.burst = dice.one_in(2) ? 1 : dice.between(2, 40);
  habits.fast_retransmit = !dice.one_in(4);
  habits.goes_back = dice.one_in(3);
  habits.cuts_anew = dice.one_in(3);
  habits.probes_with_old_byte = dice.one_in(2);
  habits.urgent = dice.one_in(10);
  return habits;
}

Weather some_weather(Dice& dice, TimePoint start) {
  Weather weather;
  weather.clears = start + dice.between(Duration(1s), Duration(20s));
  if (!dice.one_in(8)) weather.delay = dice.up_to(dice.one_in(4) ? Duration(400ms) : Duration(30ms));
  if (dice.one_in(2)) weather.jitter = dice.up_to(Duration(20ms));
  weather.late = dice.up_to(dice.one_in(4) ? Duration(800ms) : Duration(40ms));
  const auto some = [&dice](unsigned most) { return dice.one_in(2) ? 0U : static_cast<unsigned>(dice.size(most)); };
  weather.loss = some(400);
  weather.duplication = some(150);
  weather.overtaking = some(300);
  weather.corruption = some(100);
  weather.cut_apart = static_cast<unsigned>(dice.up_to(1000));
  weather.put_together = static_cast<unsigned>(dice.up_to(1000));
  if (dice.one_in(15)) {
    weather.cut_from = start + dice.up_to(Duration(10s));
    weather.cut_until = weather.cut_from + dice.up_to(Duration(30s));
  }
  if (dice.one_in(5)) {
    weather.rate = dice.between(10'000, 2'000'000);
    weather.queue = dice.between(5'000, 200'000);
  }
  if (dice.one_in(8)) weather.mtu = dice.between(576, 1500);
  return weather;
}

}  // namespace penstock::egress::testing
