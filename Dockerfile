# The manager, static and without a shell.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/external-lb/external-lb/internal/host.version=${VERSION}" -o /external-lb .

FROM gcr.io/distroless/static:nonroot
COPY --from=build /external-lb /external-lb
USER 65532:65532
ENTRYPOINT ["/external-lb"]
CMD ["manager"]
