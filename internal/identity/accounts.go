package identity

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode"

	"lambent"
)

// CreateAccount makes an account, of a random id where none is given. name is
// for people.
func (s *Store) CreateAccount(ctx context.Context, id lambent.AccountID, name string) (*Account, error) {
	const op = "create account"
	if id != "" && !lambent.IsAccountID(string(id)) {
		return nil, invalid(op, "An account's id has 12 digits; %q is none.", id)
	}
	if id == lambent.DefaultAccount {
		return nil, invalid(op, "Account %s is the operator's own: it is always there.", id)
	}
	if len(name) > 128 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, invalid(op, "An account's name has at most 128 bytes, all printable.")
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if id != "" && s.hasAccount(id) {
		return nil, exists(op, "account "+string(id))
	}
	if id != "" && s.wasAccount(id) {
		return nil, &lambent.Error{Op: op, Resource: "account " + string(id), Kind: lambent.KindExists,
			Message: "There was an account " + string(id) + ", and no id is given twice: what others let it do, and what is left of it, would be the new one's. Take another id, or none."}
	}
	for id == "" || s.hasAccount(id) || s.wasAccount(id) {
		id = newAccountID()
	}
	a := &Account{ID: id, Name: name, Created: s.opts.Now().UTC()}
	if err := s.put(ctx, accountAt(id), record{Account: string(id), Name: name, Created: a.Created}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[id] = a
	return a, nil
}

// newAccountID makes 12 random digits, of which the first is none, so that they
// stay whole in a spreadsheet.
func newAccountID() lambent.AccountID {
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000_000))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return lambent.AccountID(fmt.Sprint(100_000_000_000 + n.Int64()))
}

// hasAccount reports whether there is such an account.
func (s *Store) hasAccount(id lambent.AccountID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.accounts[id]
	return ok || id == lambent.DefaultAccount
}

// wasAccount reports whether there was such an account, and is none any more.
func (s *Store) wasAccount(id lambent.AccountID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.removed[id]
}

// Accounts lists all, sorted by id.
func (s *Store) Accounts() []*Account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*Account, 0, len(s.accounts))
	for _, a := range s.accounts {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *Account) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all
}

// DeleteAccount removes an account with its keys and roles. What it has of
// functions is the caller's to see to. Of the account it stays known that it was,
// as its layers, logs, records and others' permissions for it outlive it.
func (s *Store) DeleteAccount(ctx context.Context, id lambent.AccountID) error {
	const op = "delete account"
	s.writing.Lock()
	defer s.writing.Unlock()
	if id == lambent.DefaultAccount || !s.hasAccount(id) {
		return notFound(op, "account "+string(id))
	}
	for _, k := range s.Keys(id) { // first: what is left of a deletion that failed lets nobody in
		if err := s.dropKey(ctx, k); err != nil {
			return err
		}
	}
	for _, r := range s.Roles(id) {
		if err := s.dropRole(ctx, r); err != nil {
			return err
		}
	}
	now := s.opts.Now().UTC()
	if err := s.put(ctx, accountAt(id), record{Account: string(id), Removed: &now}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.accounts, id)
	s.removed[id] = true
	return nil
}
