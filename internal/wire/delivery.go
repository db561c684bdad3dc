package wire

import (
	"errors"
	"io"
	"iter"
	"slices"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// sendDelivery sends a delivery in parts. known is the Digest of the report that this
// end has; "": none.
func sendDelivery(d host.Delivery, known string, send func(*wirepb.ApplyRequest) error) error {
	header := &wirepb.DeliveryHeader{Cluster: d.Cluster, Epoch: fromEpoch(d.Epoch), Base: string(d.Base), Want: string(d.Want), Known: known}
	if err := send(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Header{Header: header}}); err != nil {
		return err
	}
	for keys := range slices.Chunk(d.Change.Delete, batchSize) {
		part := &wirepb.Keys{}
		for _, key := range keys {
			part.Keys = append(part.Keys, string(key))
		}
		if err := send(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Delete{Delete: part}}); err != nil {
			return err
		}
	}
	for part := range itemParts(d.Change.Put) {
		if err := send(part); err != nil {
			return err
		}
	}
	return nil
}

// itemParts cuts items into messages: many small ones into one, and a large one
// into many.
func itemParts(items []lb.Item) iter.Seq[*wirepb.ApplyRequest] {
	return func(yield func(*wirepb.ApplyRequest) bool) {
		batch, size := &wirepb.Items{}, 0
		flush := func() bool {
			full := batch
			batch, size = &wirepb.Items{}, 0
			return len(full.Items) == 0 || yield(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Put{Put: full}})
		}
		for _, it := range items {
			head := it.Data[:min(len(it.Data), chunkSize)]
			if (size+len(head) > chunkSize || len(batch.Items) == batchSize) && !flush() {
				return
			}
			batch.Items = append(batch.Items, &wirepb.Item{Key: string(it.Key), Data: head})
			size += len(head)
			rest := it.Data[len(head):]
			if len(rest) > 0 && !flush() {
				return
			}
			for data := range slices.Chunk(rest, chunkSize) {
				if !yield(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Chunk{Chunk: data}}) {
					return
				}
			}
		}
		flush()
	}
}

// receiveDelivery parses a whole delivery, or says what is wrong with it. known is the
// Digest of the report that the other end has. more is asked for room before anything
// is kept.
func receiveDelivery(recv func() (*wirepb.ApplyRequest, error), more func(bytes int) error) (d host.Delivery, known string, err error) {
	first, err := recv()
	if err != nil {
		return host.Delivery{}, "", err
	}
	header := first.GetHeader()
	if header == nil {
		return host.Delivery{}, "", invalid("a delivery begins with its header")
	}
	r := &receiver{more: more}
	r.d.Epoch = toEpoch(header.GetEpoch())
	if r.d.Cluster, err = toCluster(header.GetCluster()); err != nil {
		return host.Delivery{}, "", err
	}
	if r.d.Base, err = toDigest(header.GetBase()); err != nil {
		return host.Delivery{}, "", err
	}
	if r.d.Want, err = toDigest(header.GetWant()); err != nil {
		return host.Delivery{}, "", err
	}
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			r.end()
			return r.d, header.GetKnown(), nil
		}
		if err == nil {
			err = r.part(m)
		}
		if err != nil {
			return host.Delivery{}, "", err
		}
	}
}

// receiver puts a delivery together. It holds what has arrived, whatever more is
// promised.
type receiver struct {
	d             host.Delivery
	puts, deletes ascending
	key           lb.Key // of the item whose data may go on; "": none
	data          []byte // of it
	size          int    // bytes of all items
	more          func(bytes int) error
}

func (r *receiver) part(m *wirepb.ApplyRequest) error {
	switch p := m.GetPart().(type) {
	case *wirepb.ApplyRequest_Delete:
		r.end()
		return r.delete(p.Delete.GetKeys())
	case *wirepb.ApplyRequest_Put:
		return r.put(p.Put.GetItems())
	case *wirepb.ApplyRequest_Chunk:
		if r.key == "" || len(p.Chunk) == 0 {
			return invalid("a chunk of no item")
		}
		return r.grow(p.Chunk)
	default:
		return invalid("unexpected part %T of a delivery", p)
	}
}

func (r *receiver) delete(keys []string) error {
	if len(keys) == 0 {
		return invalid("an empty part of a delivery")
	}
	for _, key := range keys {
		if err := r.deletes.next(lb.Key(key)); err != nil {
			return err
		}
		if err := r.more(len(key) + itemCost); err != nil {
			return err
		}
		r.d.Change.Delete = append(r.d.Change.Delete, lb.Key(key))
	}
	return nil
}

func (r *receiver) put(items []*wirepb.Item) error {
	if len(items) == 0 {
		return invalid("an empty part of a delivery")
	}
	for _, it := range items {
		r.end()
		if err := r.puts.next(lb.Key(it.GetKey())); err != nil {
			return err
		}
		r.key = lb.Key(it.GetKey())
		if err := r.more(len(r.key) + itemCost); err != nil {
			return err
		}
		if err := r.grow(it.GetData()); err != nil {
			return err
		}
	}
	return nil
}

func (r *receiver) grow(data []byte) error {
	if r.size += len(data); r.size > lb.MaxSetBytes {
		return invalid("a delivery of more than %d bytes", lb.MaxSetBytes)
	}
	if err := r.more(len(data)); err != nil {
		return err
	}
	r.data = append(r.data, data...)
	return nil
}

// end takes the last item as complete.
func (r *receiver) end() {
	if r.key != "" {
		r.d.Change.Put = append(r.d.Change.Put, lb.NewItem(r.key, r.data))
	}
	r.key, r.data = "", nil
}
