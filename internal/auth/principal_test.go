package auth_test

import (
	"testing"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
)

func TestMay(t *testing.T) {
	t.Parallel()
	permissions := []auth.Permission{auth.Read, auth.Edit, auth.Own, auth.Operate, "", "everything"}
	tests := map[purser.Role][]bool{
		purser.RoleViewer:   {true, false, false, false, false, false},
		purser.RoleEditor:   {true, true, false, false, false, false},
		purser.RoleOwner:    {true, true, true, false, false, false},
		purser.RoleOperator: {true, true, true, true, false, false},
		"":                  {false, false, false, false, false, false},
		"everything":        {false, false, false, false, false, false},
		"Operator":          {false, false, false, false, false, false},
	}
	for role, may := range tests {
		for i, permission := range permissions {
			if got := (auth.Principal{Role: role}).May(permission); got != may[i] {
				t.Errorf("a %q may %q: %t, want %t", role, permission, got, may[i])
			}
		}
	}
}

func TestPrincipalTravelsInTheContext(t *testing.T) {
	t.Parallel()
	want := auth.Principal{KeyID: "key1", TeamID: "tea1", Role: purser.RoleOwner}
	if got := auth.PrincipalFrom(auth.WithPrincipal(t.Context(), want)); got != want {
		t.Errorf("PrincipalFrom = %+v, want %+v", got, want)
	}
	if got := auth.PrincipalFrom(t.Context()); got != (auth.Principal{}) || got.May(auth.Read) {
		t.Errorf("a context without a principal gives %+v", got)
	}
}
