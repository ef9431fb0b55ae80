package utilization

import (
	"context"
	"time"

	"github.com/purserhq/purser"
)

const (
	// forecastDays is how much of the past the forecast looks at.
	forecastDays = 30
	// forecastPoints is how many days of it must be known: from fewer than a week,
	// the difference between weekdays and weekends alone would look like growth.
	forecastPoints = 7
	// forecastReach is how far the forecast looks: who grows so slowly that the plan
	// lasts longer is not growing.
	forecastReach = 100 * 365
)

// daysUntilFull tells in how many days the team's plan will be used up, by a
// straight line through the totals of the last 30 days; nil while too few of
// them are known, or when usage is not growing. A plan that is used up has 0
// days left.
func (s *Service) daysUntilFull(ctx context.Context, team purser.TeamID) (*int, error) {
	usage, err := s.Store.GetTeamUsage(ctx, team)
	if err != nil {
		return nil, err
	}
	days := 0
	left := usage.TotalFreeStorage - usage.Total()
	if left <= 0 {
		return &days, nil
	}
	now := s.Now().UTC()
	q := purser.HistoryRequest{From: now.Add(-forecastDays * 24 * time.Hour), To: now, Step: purser.StepDay}
	line, err := s.timeline(ctx, team, q)
	if err != nil {
		return nil, err
	}
	slope, known := line.slope()
	if !known || slope <= 0 || float64(left)/slope > forecastReach {
		return nil, nil
	}
	days = int(float64(left) / slope)
	return &days, nil
}

// slope is how many bytes the total grows with each step, by least squares over
// the steps that are known completely; false if they are too few.
func (l *timeline) slope() (float64, bool) {
	var n, meanX, meanY float64
	known := func(yield func(x, y float64)) {
		for i, item := range l.items {
			if item.Complete && l.measured[i] {
				yield(float64(i), float64(item.Total()))
			}
		}
	}
	known(func(x, y float64) { n, meanX, meanY = n+1, meanX+x, meanY+y })
	if n < forecastPoints {
		return 0, false
	}
	meanX, meanY = meanX/n, meanY/n
	var together, spread float64 // about the means, so that large totals do not drown small growth
	known(func(x, y float64) { together, spread = together+(x-meanX)*(y-meanY), spread+(x-meanX)*(x-meanX) })
	return together / spread, true
}
