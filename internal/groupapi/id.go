// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"cofferdam.dev/internal/group"
)

// resourceType is the type of the resources.
const resourceType = "Microsoft.ContainerInstance/containerGroups"

// resourceID names a resource. Subscription and resource group are whatever the caller says: they keep names apart.
type resourceID struct {
	Subscription  string `json:"subscription"`
	ResourceGroup string `json:"resourceGroup"`
	Name          string `json:"name"`
}

var (
	validSubscription  = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
	validResourceGroup = regexp.MustCompile(`^[\pL\pN_().-]{1,90}$`)
)

// check refuses names that Azure has not either.
func (r resourceID) check() *armError {
	switch {
	case !validSubscription.MatchString(r.Subscription):
		return badRequest("InvalidSubscriptionId", "subscriptionId", "subscription %q is not 1 to 64 letters, digits and hyphens", r.Subscription)
	case !validResourceGroup.MatchString(r.ResourceGroup) || strings.HasSuffix(r.ResourceGroup, "."):
		return badRequest("InvalidResourceGroupName", "resourceGroupName", "resource group %q is not 1 to 90 letters, digits, and _().- not at the end with a full stop", r.ResourceGroup)
	}
	if err := group.ValidateName(r.Name); err != nil {
		return badRequest("InvalidResourceName", "containerGroupName", "container group: %v", err)
	}
	return nil
}

// String is the resource's ID as it was first written.
func (r resourceID) String() string {
	return "/subscriptions/" + r.Subscription + "/resourceGroups/" + r.ResourceGroup + "/providers/" + resourceType + "/" + r.Name
}

// key is the ID as it is compared: case does not matter.
func (r resourceID) key() string { return strings.ToLower(r.String()) }

// digest names the resource in file names and operations.
func (r resourceID) digest() string {
	sum := sha256.Sum256([]byte(r.key()))
	return hex.EncodeToString(sum[:16])
}

// source is what the plan of a group of the resource names as its source.
func (r resourceID) source() string { return sourcePrefix + r.String() }

const sourcePrefix = "arm:"

// storeNames are the names that a group of the resource may have in the store, by preference: its own, or one that no
// resource of another resource group has.
func (r resourceID) storeNames() []string {
	const most, suffix = 63, 8
	short := r.Name[:min(len(r.Name), most-suffix-1)]
	return []string{r.Name, strings.TrimRight(short, "-") + "-" + r.digest()[:suffix]}
}
