import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeFrame, messageTypes } from "@drover/shepherd/libvirt/rpc/frame";
import { XdrReader, XdrWriter } from "@drover/shepherd/libvirt/rpc/xdr";
import { expect, test } from "@jest/globals";
import { annotate, frameOf, payloadCodec, readFrames } from "./annotate.ts";

const path = join(import.meta.dirname, "../../../golden/libvirt/frames.hex");
const text = readFileSync(path, "utf8");
const captured = readFrames(text);

test("the golden frames, captured from virsh 9.0, read as their comments say", () => {
  const annotated = `${captured.map(({ direction, bytes }) => annotate(direction, bytes)).join("\n\n")}\n`;
  if (process.env["GOLDEN"] === "write") writeFileSync(path, annotated);
  else expect(annotated).toBe(text);
});

test.each(captured.map(({ bytes }, index) => ({ index, bytes })))(
  "captured frame $index: what we decode, we encode to the same bytes",
  ({ bytes }) => {
    const frame = frameOf(bytes);
    const { codec } = payloadCodec(frame);
    if (frame.type === messageTypes.stream)
      return expect(encodeFrame(frame, frame.payload)).toEqual(bytes);
    const reader = new XdrReader(frame.payload);
    const value = codec.decode(reader);
    reader.end();
    const writer = new XdrWriter();
    codec.encode(writer, value);
    expect(encodeFrame(frame, writer.bytes()).toString("hex")).toBe(bytes.toString("hex"));
  },
);
