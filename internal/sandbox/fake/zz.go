package fake

import (
	"context"

	"lambent"
)

const OpContainerMemory Op = "container memory"

func (i *instance) ContainerMemory(ctx context.Context) (map[lambent.ContainerID]int64, error) {
	call := Call{Op: OpContainerMemory, Instance: i.id}
	if err := i.d.enter(ctx, call, i.die); err != nil {
		return nil, err
	}
	return map[lambent.ContainerID]int64{}, nil
}
