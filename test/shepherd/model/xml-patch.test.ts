import { element, writeXml } from "@drover/shepherd/libvirt/xml/element";
import { patched } from "@drover/shepherd/libvirt/xml/patch";
import { xmlPatchProblem } from "@drover/shepherd/model/xml-patch";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

const allowed = ["cpu/topology@sockets", "features/"];

test.each<[string, string, string | undefined]>([
  ["cpu/topology@sockets", "2", undefined],
  ["features/hyperv/relaxed@state", "on", undefined],
  ["cpu/topology@cores", "2", "the site allows only cpu/topology@sockets, features/"],
  ["features/x:y@state", "on", "other namespaces are always refused"],
  ["qemu:commandline/qemu:arg@value", "-S", "other namespaces are always refused"],
  ["devices/disk/source@file", "x", "<disk> is always refused"],
  ["features/filesystem/a@b", "x", "<filesystem> is always refused"],
  ["features/a@file", "x", "the attribute file is always refused"],
  ["features/a", "/etc/passwd", "values with a slash are always refused"],
  ["features/a", "line\nbreak", "not printable"],
  ["@type", "kvm", "it is no path"],
  ["features/a@b@c", "x", "it is no path"],
  ["features/../name", "x", "is no name"],
])("%s = %j: %s", (path, value, problem) => {
  const found = xmlPatchProblem({ path, value }, allowed);
  if (problem === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(problem);
});

test("without a word of the site nothing is allowed", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (path, value) => {
      expect(xmlPatchProblem({ path, value }, [])).toBeDefined();
    }),
  );
});

test("a patch sets one attribute or text, makes what is not there, and leaves the rest alone", () => {
  const cpu = element("cpu", { mode: "custom" }, element("model", {}, "qemu64"));
  const domain = element("domain", { type: "qemu" }, cpu, element("devices", {}));
  const after = patched(domain, [
    { path: "cpu/topology@sockets", value: "2" },
    { path: "cpu/topology@cores", value: "1" },
    { path: "features/pmu@state", value: "off" },
    { path: "title", value: "a & b" },
  ]);
  expect(writeXml(after).replaceAll(/>\s+</g, "><").trim()).toBe(
    writeXml(
      element(
        "domain",
        { type: "qemu" },
        element(
          "cpu",
          { mode: "custom" },
          element("model", {}, "qemu64"),
          element("topology", { sockets: "2", cores: "1" }),
        ),
        element("devices", {}),
        element("features", {}, element("pmu", { state: "off" })),
        element("title", {}, "a & b"),
      ),
    )
      .replaceAll(/>\s+</g, "><")
      .trim(),
  );
});
