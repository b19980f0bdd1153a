// The suites on real libvirt, QEMU and sshd: one at a time, because they share the machine's two cores; root needed.
import shared from "../../jest.config.js";

export default {
  ...shared,
  rootDir: "../..",
  roots: ["<rootDir>/test/lab"],
  testPathIgnorePatterns: ["/node_modules/"],
  maxWorkers: 1,
  testTimeout: 180_000,
};
