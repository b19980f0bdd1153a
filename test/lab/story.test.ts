/** The whole story of `make demo`, asserted: on real libvirt, QEMU, sshd and Terraform. */
import { playAsSuite } from "./story/suite.ts";

playAsSuite({ world: "lab", name: "story" });
