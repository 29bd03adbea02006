package fake

import (
	"context"
	"lambent"
)

func (i *instance) ContainerMemory(ctx context.Context) (map[lambent.ContainerID]int64, error) {
	return map[lambent.ContainerID]int64{}, nil
}
