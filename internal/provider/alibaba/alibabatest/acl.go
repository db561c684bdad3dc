package alibabatest

import (
	"encoding/json"
	"slices"
	"time"
)

func (c *Cloud) createACL(p url) (object, *Fault) {
	for _, a := range c.acls {
		if a.name == p["AclName"] {
			return nil, refuse(400, "AclNameExist", "The specified AclName already exist.")
		}
	}
	a := &acl{common: c.make("acl", p["AclName"], p)}
	a.until = time.Time{}
	c.acls[a.id] = a
	return object{"AclId": a.id}, first(must(p, "AclName"))
}

func (c *Cloud) aclOf(p url) (*acl, *Fault) {
	if a := c.acls[p["AclId"]]; a != nil {
		return a, nil
	}
	return nil, refuse(400, "AclNotExist", "The specified acl does not exist.")
}

func (c *Cloud) deleteACL(p url) (object, *Fault) {
	a, fault := c.aclOf(p)
	if fault != nil {
		return nil, fault
	}
	for _, l := range c.listeners {
		if l.fields["AclStatus"] == "on" && l.fields["AclId"] == a.id {
			return nil, refuse(400, "AclInUsed", "The acl is in use.")
		}
	}
	delete(c.acls, a.id)
	return object{}, nil
}

func (c *Cloud) listACLs(p url) (object, *Fault) {
	all := listed(c, "DescribeAccessControlLists", p, c.acls, func(a *acl) *common { return &a.common }, func(*acl) bool { return true })
	page, fault := numbered(c, p, "PageNumber", 50, all)
	out := []object{}
	for _, a := range page {
		out = append(out, object{"AclId": a.id, "AclName": a.name, "AddressIPVersion": "ipv4", "Tags": named(a.tags)})
	}
	return object{"Acls": object{"Acl": out}, "TotalCount": len(all)}, fault
}

func (c *Cloud) readACL(p url) (object, *Fault) {
	a, fault := c.aclOf(p)
	if fault != nil {
		return nil, fault
	}
	page, fault := numbered(c, p, "Page", 50, a.entries)
	out := []object{}
	for _, e := range page {
		out = append(out, object{"AclEntryIP": e})
	}
	return object{"AclId": a.id, "AclName": a.name, "TotalAclEntry": len(a.entries), "AclEntrys": object{"AclEntry": out}}, fault
}

func (c *Cloud) entries(p url) (*acl, []string, *Fault) {
	a, fault := c.aclOf(p)
	if fault != nil {
		return nil, nil, fault
	}
	var all []struct{ Entry string }
	if err := json.Unmarshal([]byte(p["AclEntrys"]), &all); err != nil || len(all) == 0 || len(all) > 50 {
		return nil, nil, refuse(400, "InvalidParameter", "The specified parameter AclEntrys is invalid.")
	}
	var out []string
	for _, e := range all {
		out = append(out, e.Entry)
	}
	return a, out, nil
}

func (c *Cloud) addEntries(p url) (object, *Fault) {
	a, all, fault := c.entries(p)
	if fault != nil {
		return nil, fault
	}
	if len(a.entries)+len(all) > 300 {
		return nil, refuse(400, "AclEntryNumberOverLimit", "The maximum number of entries is exceeded.")
	}
	for _, e := range all {
		if !slices.Contains(a.entries, e) {
			a.entries = append(a.entries, e)
		}
	}
	return object{}, nil
}

func (c *Cloud) removeEntries(p url) (object, *Fault) {
	a, all, fault := c.entries(p)
	if fault != nil {
		return nil, fault
	}
	a.entries = slices.DeleteFunc(a.entries, func(e string) bool { return slices.Contains(all, e) })
	c.wasOpen = c.wasOpen || len(a.entries) == 0
	return object{}, nil
}
