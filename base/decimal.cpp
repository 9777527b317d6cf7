#include "base/decimal.hpp"
namespace kontor {}
