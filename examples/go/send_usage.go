// Sends usage to a tallyman agent: send_usage ADDRESS CUSTOMER DIMENSION WORK QUANTITY... Event ids are made of WORK, which
// names what was done, so that whoever sends it again bills it once. ../README.md says how to make the stubs in pb.
package main

import (
	"context"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"log"
	"math"
	"math/rand"
	"os"
	"sendusage/pb"
	"strconv"
	"time"
)

// With these the request may or may not have arrived. Any other says that to send it again is of no use.
var retry = map[codes.Code]bool{codes.Unavailable: true, codes.ResourceExhausted: true, codes.DeadlineExceeded: true}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatalf("not sent: %v", err)
	}
	return value
}

func send(usage pb.UsageServiceClient, request *pb.RecordRequest) (*pb.RecordResponse, error) {
	for pause, giveUp := 0.1, time.Now().Add(time.Minute); ; pause = math.Min(5, pause*2) {
		attempt, done := context.WithTimeout(context.Background(), 10*time.Second)
		answer, err := usage.Record(attempt, request)
		done()
		wait := time.Duration(pause * (0.5 + rand.Float64()/2) * float64(time.Second))
		if !retry[status.Code(err)] || time.Now().Add(wait).After(giveUp) {
			return answer, err
		}
		log.Printf("%v, again in %v", status.Code(err), wait)
		time.Sleep(wait)
	}
}

func main() {
	request, address, customer, dimension, work := &pb.RecordRequest{}, os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	for number, text := range os.Args[5:] {
		quantity, id := must(strconv.ParseUint(text, 10, 64)), work+"-"+strconv.Itoa(number)
		request.Events = append(request.Events, &pb.UsageEvent{Customer: customer, Dimension: dimension, Quantity: quantity, EventId: id})
	}
	insecurely := grpc.WithTransportCredentials(insecure.NewCredentials())
	answer := must(send(pb.NewUsageServiceClient(must(grpc.NewClient(address, insecurely))), request))
	log.Printf("accepted %d, duplicates %d, rejected %d", answer.Accepted, answer.Duplicates, len(answer.Rejected))
	for _, rejection := range answer.Rejected { // These did not count; the others did.
		log.Printf("event %d: %s", rejection.Index, rejection.Message)
	}
	if len(answer.Rejected) > 0 {
		os.Exit(1)
	}
}
