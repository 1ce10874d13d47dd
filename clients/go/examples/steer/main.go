// Streams an answer, raises its temperature in the middle, and rates it:
// `steer HOST:PORT`. A key is taken from THERMESH_API_KEY.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	_ "thermesh/clients/go/codec"
	pb "thermesh/clients/go/thermeshv1"
)

func main() {
	target := "127.0.0.1:50050"
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	connection, err := grpc.Dial(target, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(withKey(context.Background()), 2*time.Minute)
	defer cancel()
	decision, err := ask(ctx, pb.NewChatServiceClient(connection))
	if err != nil {
		log.Fatal(err)
	}
	if decision == "" {
		return
	}
	state, err := rate(ctx, pb.NewFeedbackServiceClient(connection), decision)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("feedback:", state)
}

// withKey adds the key that the gateway may ask for.
func withKey(ctx context.Context) context.Context {
	if key := os.Getenv("THERMESH_API_KEY"); key != "" {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	return ctx
}

// ask reads one answer to its end; it returns the decision that feedback is about.
func ask(ctx context.Context, client pb.ChatServiceClient) (string, error) {
	stream, err := client.Converse(ctx)
	if err != nil {
		return "", err
	}
	if err := stream.Send(start()); err != nil {
		return "", err
	}
	decision, steered := "", false
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return decision, nil
		}
		if err != nil {
			return "", err
		}
		switch message := response.GetMessage().(type) {
		case *pb.ConverseResponse_Plan:
			decision = message.Plan.GetDecisionId()
		case *pb.ConverseResponse_Tokens:
			for _, token := range message.Tokens.GetTokens() {
				fmt.Printf("%d  T %.2f  %q\n", token.GetIndex(), token.GetTemperature(), token.GetText())
			}
			if !steered {
				steered = true
				if err := stream.Send(warmer(1, 1.2)); err != nil {
					return "", err
				}
			}
		case *pb.ConverseResponse_Applied:
			if message.Applied.GetSource() == pb.UpdateSource_UPDATE_SOURCE_CLIENT {
				fmt.Printf("update %d holds from %d on\n", message.Applied.GetUpdateId(), message.Applied.GetTokenIndex())
			}
		case *pb.ConverseResponse_Rejected:
			fmt.Printf("update %d: %s\n", message.Rejected.GetUpdateId(), message.Rejected.GetMessage())
		}
	}
}

// start returns the words that begin an answer.
func start() *pb.ConverseRequest {
	return &pb.ConverseRequest{Message: &pb.ConverseRequest_Start{Start: &pb.ConverseStart{
		Messages: []*pb.ChatMessage{{
			Role:    pb.Role_ROLE_USER,
			Content: "Write a story about the sea.",
		}},
		Constraints: &pb.Constraints{Temperature: proto.Float64(0.3), MaxTokens: 60},
	}}}
}

// warmer returns a change of temperature; ids of updates must grow.
func warmer(id uint64, temperature float64) *pb.ConverseRequest {
	program := &pb.TemperatureProgram{Kind: &pb.TemperatureProgram_Fixed{
		Fixed: &pb.FixedProgram{Temperature: temperature},
	}}
	update := &pb.ParameterUpdate{UpdateId: id, Program: program}
	return &pb.ConverseRequest{Message: &pb.ConverseRequest_Update{Update: update}}
}

// rate says that an answer was good; sent again with the same id, it counts once.
func rate(ctx context.Context, client pb.FeedbackServiceClient, decision string) (string, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	response, err := client.SubmitFeedback(ctx, &pb.SubmitFeedbackRequest{
		FeedbackId: fmt.Sprintf("fb-%x", id),
		DecisionId: decision,
		Score:      1,
		Signal:     pb.FeedbackSignal_FEEDBACK_SIGNAL_EXPLICIT,
	})
	return response.GetState().String(), err
}
