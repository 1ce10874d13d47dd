// Package codec lets gRPC carry messages of today's protobuf generator where it
// is linked with protobuf 1.3, as in Debian 12: its own codec panics on them.
// Import it for its effect; it does what the codec of newer gRPC does.
package codec

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	standard "google.golang.org/grpc/encoding/proto"
	"google.golang.org/protobuf/proto"
)

type codec struct{}

func (codec) Name() string { return standard.Name }

func (codec) Marshal(value interface{}) ([]byte, error) {
	message, ok := value.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no message of protobuf", value)
	}
	return proto.Marshal(message)
}

func (codec) Unmarshal(data []byte, value interface{}) error {
	message, ok := value.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message of protobuf", value)
	}
	return proto.Unmarshal(data, message)
}

func init() { encoding.RegisterCodec(codec{}) }
