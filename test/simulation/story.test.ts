/** The story of `make demo WORLD=simulated`, asserted: the real Terraform, provider, shepherd and policies. */
import { playAsSuite } from "../lab/story/suite.ts";

playAsSuite({ world: "simulated", name: "test" });
