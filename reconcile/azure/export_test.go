package azure

import "time"

// SetSettleEvery shortens the waits of a driver.
func (d *Driver) SetSettleEvery(every time.Duration) { d.settleEvery = every }
