package api

import (
	"strconv"
)

// This file holds the settings of AWS that lambent does not have (yet): they
// are decoded and held against the model's constraints like all others, and
// then refused by name. Given in a form that asks for nothing (an empty list,
// SnapStart's "None") they pass.

func (s *settings) foreignMember(d *decoder, name string) (known bool, err error) {
	switch name {
	case "VpcConfig":
		s.VpcConfig = &vpcSettings{}
		err = d.structure(s.VpcConfig)
	case "FileSystemConfigs":
		s.FileSystemConfigs = []fileSystemSettings{}
		err = d.list(func() error {
			var fs fileSystemSettings
			err := d.structure(&fs)
			s.FileSystemConfigs = append(s.FileSystemConfigs, fs)
			return err
		})
	case "ImageConfig":
		s.ImageConfig = &imageSettings{}
		err = d.structure(s.ImageConfig)
	case "SnapStart":
		s.SnapStart = &snapStartSettings{}
		err = d.structure(s.SnapStart)
	case "CapacityProviderConfig":
		s.CapacityProviderConfig = &capacityProviderSettings{}
		err = d.structure(s.CapacityProviderConfig)
	case "DurableConfig":
		s.DurableConfig = &durableSettings{}
		err = d.structure(s.DurableConfig)
	default:
		return false, nil
	}
	return true, err
}

func (s *settings) checkForeign(v *violations, sh *shapes) {
	if c := s.VpcConfig; c != nil {
		v.list("vpcConfig.subnetIds", c.SubnetIds, 0, 16)
		v.list("vpcConfig.securityGroupIds", c.SecurityGroupIds, 0, 5)
	}
	if len(s.FileSystemConfigs) > 1 {
		v.add("fileSystemConfigs", "'["+strconv.Itoa(len(s.FileSystemConfigs))+" entries]'", maxLength(1).text)
	}
	for i, c := range s.FileSystemConfigs {
		path := "fileSystemConfigs." + strconv.Itoa(i+1) + ".member."
		v.required(path+"arn", c.Arn != nil)
		v.str(path+"arn", c.Arn, sh.fileSystemArn...)
		v.required(path+"localMountPath", c.LocalMountPath != nil)
		v.str(path+"localMountPath", c.LocalMountPath, sh.mountPath...)
	}
	if c := s.ImageConfig; c != nil {
		v.list("imageConfig.entryPoint", c.EntryPoint, 0, 1500)
		v.list("imageConfig.command", c.Command, 0, 1500)
		v.str("imageConfig.workingDirectory", c.WorkingDirectory, sh.workingDirectory...)
	}
	if c := s.SnapStart; c != nil {
		v.str("snapStart.applyOn", c.ApplyOn, sh.applyOn...)
	}
	if c := s.CapacityProviderConfig; c != nil {
		c.check(v, sh)
	}
	if c := s.DurableConfig; c != nil {
		v.integer("durableConfig.retentionPeriodInDays", c.RetentionPeriodInDays, 1, 90)
		v.integer("durableConfig.executionTimeout", c.ExecutionTimeout, 1, 31622400)
	}
}

func (s *settings) foreignAcceptable(operation string) error {
	refused := []struct {
		field string
		given bool
	}{
		{"VpcConfig", s.VpcConfig != nil && len(s.VpcConfig.SubnetIds)+len(s.VpcConfig.SecurityGroupIds) > 0},
		{"FileSystemConfigs", len(s.FileSystemConfigs) > 0},
		{"SnapStart", s.SnapStart != nil && s.SnapStart.ApplyOn != nil && *s.SnapStart.ApplyOn != "None"},
		{"CapacityProviderConfig", s.CapacityProviderConfig != nil},
		{"DurableConfig", s.DurableConfig != nil},
		{"KMSKeyArn", nonEmpty(s.KMSKeyArn)},
	}
	for _, f := range refused {
		if f.given {
			return unsupportedField(operation, f.field)
		}
	}
	return nil
}

// unsupportedField refuses a field rather than drop what it asks for.
func unsupportedField(operation, field string) error {
	return invalid(operation, "lambent does not support "+field+" yet: leave it out, or empty.")
}

func nonEmpty(s *string) bool { return s != nil && *s != "" }

type vpcSettings struct{ SubnetIds, SecurityGroupIds []*string }

func (c *vpcSettings) member(d *decoder, name string) error {
	switch name {
	case "SubnetIds":
		return d.strings(&c.SubnetIds)
	case "SecurityGroupIds":
		return d.strings(&c.SecurityGroupIds)
	case "Ipv6AllowedForDualStack":
		var ignored *bool // means nothing without subnets
		return d.boolean(&ignored)
	}
	return d.skip()
}

type fileSystemSettings struct{ Arn, LocalMountPath *string }

func (c *fileSystemSettings) member(d *decoder, name string) error {
	switch name {
	case "Arn":
		return d.str(&c.Arn)
	case "LocalMountPath":
		return d.str(&c.LocalMountPath)
	}
	return d.skip()
}

type imageSettings struct {
	EntryPoint, Command []*string
	WorkingDirectory    *string
}

func (c *imageSettings) member(d *decoder, name string) error {
	switch name {
	case "EntryPoint":
		return d.strings(&c.EntryPoint)
	case "Command":
		return d.strings(&c.Command)
	case "WorkingDirectory":
		return d.str(&c.WorkingDirectory)
	}
	return d.skip()
}

type snapStartSettings struct{ ApplyOn *string }

func (c *snapStartSettings) member(d *decoder, name string) error {
	if name == "ApplyOn" {
		return d.str(&c.ApplyOn)
	}
	return d.skip()
}

type durableSettings struct{ RetentionPeriodInDays, ExecutionTimeout *int }

func (c *durableSettings) member(d *decoder, name string) error {
	switch name {
	case "RetentionPeriodInDays":
		return d.integer(&c.RetentionPeriodInDays)
	case "ExecutionTimeout":
		return d.integer(&c.ExecutionTimeout)
	}
	return d.skip()
}

type capacityProviderSettings struct{ instances *managedInstances }

type managedInstances struct {
	CapacityProviderArn                   *string
	PerExecutionEnvironmentMaxConcurrency *int
	ExecutionEnvironmentMemoryGiBPerVCpu  *float64
}

func (c *capacityProviderSettings) member(d *decoder, name string) error {
	if name == "LambdaManagedInstancesCapacityProviderConfig" {
		c.instances = &managedInstances{}
		return d.structure(c.instances)
	}
	return d.skip()
}

func (m *managedInstances) member(d *decoder, name string) error {
	switch name {
	case "CapacityProviderArn":
		return d.str(&m.CapacityProviderArn)
	case "PerExecutionEnvironmentMaxConcurrency":
		return d.integer(&m.PerExecutionEnvironmentMaxConcurrency)
	case "ExecutionEnvironmentMemoryGiBPerVCpu":
		return d.float(&m.ExecutionEnvironmentMemoryGiBPerVCpu)
	}
	return d.skip()
}

func (c *capacityProviderSettings) check(v *violations, sh *shapes) {
	const path = "capacityProviderConfig.lambdaManagedInstancesCapacityProviderConfig"
	v.required(path, c.instances != nil)
	if c.instances == nil {
		return
	}
	v.required(path+".capacityProviderArn", c.instances.CapacityProviderArn != nil)
	v.str(path+".capacityProviderArn", c.instances.CapacityProviderArn, sh.capacityProviderArn...)
	v.integer(path+".perExecutionEnvironmentMaxConcurrency", c.instances.PerExecutionEnvironmentMaxConcurrency, 1, 1600)
	if g := c.instances.ExecutionEnvironmentMemoryGiBPerVCpu; g != nil && (*g < 2 || *g > 8) {
		v.add(path+".executionEnvironmentMemoryGiBPerVCpu", quote(strconv.FormatFloat(*g, 'g', -1, 64)), "Member must have value between 2.0 and 8.0")
	}
}
