package scaler

// Peaks are the largest values of the recent past: ever later, ever smaller.
type Peaks struct {
	List [peaksMost]peak `json:"list"`
	N    int             `json:"n"`
}

type peak struct {
	At    float64 `json:"at"`
	Value float64 `json:"value"`
}

const peaksMost = 64

// add takes the value of now and forgets what is older than age.
func (p *Peaks) add(clock, value, age float64) {
	for p.N > 0 && p.List[p.N-1].Value <= value {
		p.N--
	}
	old := 0
	for old < p.N && clock-p.List[old].At > age {
		old++
	}
	copy(p.List[:], p.List[old:p.N])
	p.N -= old
	if p.N == peaksMost || p.N > 0 && clock-p.List[p.N-1].At < age/peaksMost {
		return // the last one is larger and hardly older
	}
	p.List[p.N] = peak{clock, value}
	p.N++
}

// most is the largest value within the last age seconds.
func (p *Peaks) most(clock, age float64) float64 {
	for _, e := range p.List[:p.N] {
		if clock-e.At <= age {
			return e.Value
		}
	}
	return 0
}
