import { text } from "node:stream/consumers";
import { messageTypes, statuses } from "@drover/shepherd/libvirt/rpc/frame";
import { remote } from "@drover/shepherd/libvirt/rpc/procedures";
import { domainOf } from "@drover/shepherd/libvirt/rpc/references";
import { expect, test } from "@jest/globals";
import { ScriptedDaemon, settled } from "./scripted-daemon.ts";

const channel = {
  domain: domainOf("0192f000-0000-7000-8000-000000000001"),
  name: "dev.drover.0",
  flags: 0,
};
const span = {
  volume: { pool: "p", name: "v", key: "/p/v" },
  offsetBytes: 0,
  lengthBytes: 0,
  flags: 0,
};

/** An open channel stream and the daemon's view of its call. */
async function opened(options: { windowBytes?: number } = {}) {
  const { daemon, connection } = await ScriptedDaemon.connect();
  const opening = connection.openStream(remote.domainOpenChannel, channel, options);
  await settled();
  const [call] = daemon.calls(remote.domainOpenChannel);
  if (call === undefined) throw new Error("the call did not come");
  return { daemon, connection, opening, call };
}

test("data that comes in one read with the accepting reply is not lost", async () => {
  const { daemon, opening, call } = await opened();
  daemon.reply(call, remote.domainOpenChannel.result, {});
  daemon.stream(call, statuses.more, Buffer.from("first "));
  daemon.stream(call, statuses.more, Buffer.from("second"));
  daemon.stream(call, statuses.more);
  const stream = await opening;
  const reading = text(stream);
  await settled();
  // The end is answered with a goodbye, which the daemon confirms.
  expect(daemon.streamFrames().map((frame) => frame.status)).toEqual([statuses.ok]);
  daemon.stream(call, statuses.ok);
  expect(await reading).toBe("first second");
});

test("a refused call gives the fault and no stream", async () => {
  const { daemon, opening, call } = await opened();
  daemon.fail(call, { code: 9, message: "Active channel stream exists" });
  await expect(opening).rejects.toMatchObject({ code: "libvirt.operation_failed" });
  await settled();
  expect(daemon.streamFrames()).toEqual([]);
});

test("an error in the middle ends the stream with libvirt's fault", async () => {
  const { daemon, opening, call } = await opened();
  daemon.reply(call, remote.domainOpenChannel.result, {});
  const stream = await opening;
  const reading = text(stream);
  daemon.stream(call, statuses.more, Buffer.from("half"));
  daemon.fail(call, { code: 38, message: "gone" }, messageTypes.stream);
  await expect(reading).rejects.toMatchObject({ code: "libvirt.system" });
});

test("leaving a stream aborts it at the daemon, and its late data is dropped", async () => {
  const { daemon, connection, opening, call } = await opened();
  daemon.reply(call, remote.domainOpenChannel.result, {});
  const stream = await opening;
  stream.destroy();
  await settled();
  expect(daemon.streamFrames().map((frame) => frame.status)).toEqual([statuses.error]);
  daemon.stream(call, statuses.more, Buffer.from("late"));
  await settled();
  expect(connection.isOpen).toBe(true);
});

test("at most 64 KiB go out before the daemon gives a sign that it reads on", async () => {
  const { daemon, opening, call } = await opened();
  daemon.reply(call, remote.domainOpenChannel.result, {});
  const stream = await opening;
  daemon.answersPings = false;
  const payload = Buffer.alloc(200_000, "x");
  const written = new Promise<void>((resolve) => stream.write(payload, () => resolve()));
  const sentBytes = () =>
    daemon.streamFrames().reduce((sum, frame) => sum + frame.payload.length, 0);
  await settled();
  expect(sentBytes()).toBe(65_536);
  expect(stream.awaitsCredit).toBe(true);
  daemon.answersPings = true;
  daemon.pong();
  await written;
  expect(sentBytes()).toBe(200_000);
  expect(Math.max(...daemon.streamFrames().map((frame) => frame.payload.length))).toBe(16_384);
});

test("an upload is finished when the daemon says so, not before", async () => {
  const { daemon, connection } = await ScriptedDaemon.connect();
  const opening = connection.openStream(remote.storageVolUpload, span, {
    windowBytes: Number.POSITIVE_INFINITY,
  });
  await settled();
  const [call] = daemon.calls(remote.storageVolUpload);
  if (call === undefined) throw new Error("the call did not come");
  daemon.reply(call, remote.storageVolUpload.result, {});
  const stream = await opening;
  stream.resume();
  let finished = false;
  const finishing = new Promise<void>((resolve) => stream.on("finish", () => resolve(undefined)));
  void finishing.then(() => {
    finished = true;
  });
  stream.end(Buffer.alloc(600_000, 1));
  await settled();
  expect(daemon.streamFrames().map((frame) => [frame.status, frame.payload.length])).toEqual([
    [statuses.more, 262_120],
    [statuses.more, 262_120],
    [statuses.more, 75_760],
    [statuses.ok, 0],
  ]);
  expect(finished).toBe(false);
  daemon.stream(call, statuses.ok);
  await finishing;
});

test("holes are zeros to a plain reader, and lengths to one that asks", async () => {
  for (const asks of [false, true]) {
    const { daemon, connection } = await ScriptedDaemon.connect();
    const holes: number[] = [];
    const onHole = asks ? (bytes: number) => void holes.push(bytes) : undefined;
    const opening = connection.openStream(
      remote.storageVolDownload,
      { ...span, flags: 1 },
      { onHole },
    );
    await settled();
    const [call] = daemon.calls(remote.storageVolDownload);
    if (call === undefined) throw new Error("the call did not come");
    daemon.reply(call, remote.storageVolDownload.result, {});
    const length = Buffer.alloc(12);
    length.writeBigInt64BE(200_000n);
    daemon.stream(call, statuses.more, Buffer.from("a"));
    daemon.send({ ...call, type: messageTypes.streamHole, status: statuses.more }, length);
    daemon.stream(call, statuses.more, Buffer.from("b"));
    daemon.stream(call, statuses.more);
    const reading = text(await opening);
    await settled();
    daemon.stream(call, statuses.ok);
    const content = await reading;
    expect([content.length, content.at(0), content.at(-1)]).toEqual([asks ? 2 : 200_002, "a", "b"]);
    expect(holes).toEqual(asks ? [200_000] : []);
  }
});

test("a reader that stops reading stops the daemon, and everything arrives when it goes on", async () => {
  const { daemon, opening, call } = await opened();
  daemon.reply(call, remote.domainOpenChannel.result, {});
  const stream = await opening;
  for (let i = 0; i < 100; i += 1) daemon.stream(call, statuses.more, Buffer.alloc(60_000, "y"));
  daemon.stream(call, statuses.more);
  await settled();
  expect(daemon.transport.isPaused()).toBe(true);
  const reading = text(stream);
  await settled();
  daemon.stream(call, statuses.ok);
  expect(await reading).toHaveLength(6_000_000);
});

test("a connection that ends takes its streams along", async () => {
  const { daemon, opening, call } = await opened();
  daemon.reply(call, remote.domainOpenChannel.result, {});
  const reading = text(await opening);
  daemon.hangUp();
  await expect(reading).rejects.toMatchObject({ code: "libvirt.disconnected" });
});
