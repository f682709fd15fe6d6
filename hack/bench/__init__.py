"""`python -m bench`: many VMs through their life, measured beside the budgets of the design.

Figures depend on the machine and on what else it does; the counts (calls, writes) do not. Tests assert the counts;
nothing here is asserted.
"""
