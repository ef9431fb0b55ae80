package purser

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// RequestBudget is how many requests scans may send to the bucket of one
// provider within a day, and how many they have sent.
type RequestBudget struct {
	PerDay int64 // 0 is no limit
	Spent  int64
	// Day is the beginning, in UTC, of the day on which they were sent; zero before
	// the first.
	Day time.Time
}

// On returns the budget on the day with this beginning: a new day begins with
// nothing spent.
func (b RequestBudget) On(day time.Time, perDay int64) RequestBudget {
	if !b.Day.Equal(day) {
		b.Spent = 0
	}
	return RequestBudget{PerDay: perDay, Spent: b.Spent, Day: day}
}

// RenewsAt is when the next day begins, and with it a new budget.
func (b RequestBudget) RenewsAt() time.Time { return b.Day.Add(StepDay.Duration()) }

// Cost is an amount of money in millionths of a US dollar.
type Cost int64

// requestCost is what AWS S3 asks for a LIST request by its list price for
// us-east-1: 0.005 USD for a thousand (https://aws.amazon.com/s3/pricing/). Other
// stores ask for less, or for nothing.
const requestCost Cost = 5

// EstimateCost is what so many requests come to by the list price of AWS S3; it
// stops at the largest amount there is.
func EstimateCost(requests int64) Cost {
	if requests > math.MaxInt64/int64(requestCost) {
		return math.MaxInt64
	}
	return Cost(requests) * requestCost
}

// String gives the amount in US dollars, with as many decimals as it has but at
// least two: 0.000005, 12.50.
func (c Cost) String() string {
	text := fmt.Sprintf("%d.%06d", c/1e6, c%1e6)
	return text[:len(text)-4] + strings.TrimRight(text[len(text)-4:], "0")
}

// ParseCost reads what String gives.
func ParseCost(s string) (Cost, error) {
	whole, part, _ := strings.Cut(s, ".")
	n, err := strconv.ParseUint(whole+(part + "000000")[:6], 10, 63)
	if err != nil || whole == "" || len(part) > 6 {
		return 0, fmt.Errorf("%q is not an amount of US dollars such as 0.00015", s)
	}
	return Cost(n), nil
}
