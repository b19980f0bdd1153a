terraform import drover_machine.rank0 ring/rank-0

# A machine that another tool made, by its libvirt UUID: taken over as it runs, not restarted.
terraform import drover_machine.rank0 'ring/rank-0=7d4f6c1e-1c1f-4a53-9f0a-0d6b7a5f2c11'
