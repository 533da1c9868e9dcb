"""REDS: nested subnets of one network, chosen by knapsacks, trained together.

F. Corti, B. Maag, J. Schauer, U. Pferschy, O. Saukh: "REDS: Resource-Efficient Deep Subnetworks
for Dynamic Resource Constraints", 2023.
"""
