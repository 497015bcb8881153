// Habits and weathers as dice have them: each of what is rare alone is not rare here, and much is as it mostly is.
#pragma once

#include "egress/tcp/simulation_testing.h"
#include "egress/tcp/tcp_client_testing.h"

namespace penstock::egress::testing {

// A number near the wrap, or any.
std::uint32_t some_number(Dice& dice);
ClientHabits some_habits(Dice& dice);
// It clears within 20 s of `start`, and any cut is over within 40: whoever tries for a minute gets through.
Weather some_weather(Dice& dice, TimePoint start);

}  // namespace penstock::egress::testing
