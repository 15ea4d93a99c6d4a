"""Does the contract of the core hold for components in processes of their own?"""
